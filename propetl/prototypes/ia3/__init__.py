"""(IA)³: learned scales on keys, values and the inner values of the FFN."""

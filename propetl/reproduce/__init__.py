"""Named sets of experiments: run them over seeds, and put the paper's numbers beside ours."""

"""Files that a session reads and checks while its engines load."""

from propetl.runtime.artifact import Artifact, verify_tokenizer, verify_weights
from propetl.runtime.tokenise import Tokeniser, shared_tokeniser


def check_weights(artifact: Artifact) -> None:
    """Hashes the weights if the artifact is hashing, beside the loading of engines.

    Structured files (graphs, plans) were hashed as engines read them; numbers of weights only lead to
    answers, and no session gives any before this has ended.
    """
    if artifact.hashing:
        verify_weights(artifact)


def checked_tokeniser(artifact: Artifact) -> Tokeniser:
    """The tokenizer, after it was hashed if the artifact is hashing."""
    if artifact.hashing:
        verify_tokenizer(artifact)
    manifest = artifact.manifest
    return shared_tokeniser(artifact.tokenizer_path, manifest.max_length, manifest.pad_token_id, manifest.token_inputs)

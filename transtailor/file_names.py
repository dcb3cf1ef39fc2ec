"""Names of files and folders for texts of the user."""

import hashlib
import re

LONGEST_FILE_NAME = 100  # characters; encrypted home folders (eCryptfs) take 143, and ids and endings are added


def file_name(*words: str) -> str:
    """Return a name for a file or folder, made of words of a user: letters, digits, `.`, `_`, and `-` between words.

    A name that would be too long is shortened, and ends with a digest of the words.

    >>> file_name("prune l1 (50%)", "digits_vgg")
    'prune_l1_50_-digits_vgg'

    Returns:
        at most `LONGEST_FILE_NAME` characters, none of which a shell or a file system reads otherwise.
    """
    name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", word) for word in words)
    name = re.sub(r"^[.-]+", "_", name) or "_"  # hidden files, options of commands, nothing
    if len(name) <= LONGEST_FILE_NAME:
        return name
    digest = hashlib.sha256("\0".join(words).encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name[: LONGEST_FILE_NAME - len(digest) - 1]}-{digest}"

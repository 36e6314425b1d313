"""The programs of peers that are libraries: the plainest service that their documentation leads to."""

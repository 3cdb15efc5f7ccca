"""The command line: words in, calls to the library, one-line errors out."""

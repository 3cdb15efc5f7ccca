"""Names that notebooks written for KerasNLP and for the gemma package of 2024 use.

`keras_nlp` and `keras_hub` are the same, `keras` stands in for Keras where it is not installed,
`gemma` has the modules of the first gemma package. They translate names and meanings; whatever
computes is gemkit's.
"""

"""Generation and scoring: token ids in, token ids and log-likelihoods out."""

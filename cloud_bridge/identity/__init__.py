"""Who may be which node: the CA, the tokens that boards join with, their certificates, what is revoked."""

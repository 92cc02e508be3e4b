"""CloudHub: the edge-facing server. `session` is the protocol without I/O, `server` the shell around it."""

"""A real Kubernetes control plane on this computer, for tests and bench: its programs, and a cluster."""

"""From an empty board to a node of the cluster: `motelet flash` and `motelet provision`."""

"""The backend on a KubeEdge CloudCore: to it each board is one more EdgeCore."""

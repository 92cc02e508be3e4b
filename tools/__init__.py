"""What runs on a developer's or an operator's computer: the `motelet` command, the demo, the bench, builds.

Tools may use everything else in the tree; nothing else may use them.
"""

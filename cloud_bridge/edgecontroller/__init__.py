"""EdgeController: pods go down to the boards with what they refer to, and their status comes up."""

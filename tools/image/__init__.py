"""What a board is given: the compiled code, and the images of it that are written to flash."""

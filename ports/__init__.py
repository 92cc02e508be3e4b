"""What differs per platform, behind one small interface: see README.md."""

"""Where the truth lives. `base` says what a backend has to do; each other module is one."""

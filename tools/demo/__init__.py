"""The demo that `make demo` shows: from a line of YAML to a Modbus register and back, on one computer."""

"""What goes over the wire: errors inside a 200, odd usage, text that is no Unicode."""

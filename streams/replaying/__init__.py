"""What was, once more: files and topics sent again, derived topics rebuilt, compared and taken over."""

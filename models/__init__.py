"""Know: pure models of what software on a node does with its configuration."""

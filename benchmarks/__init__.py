"""How fast crossfade is, measured on the embedded stack. What is measured and what is not: README.md here."""

"""What crossfade is measured beside."""

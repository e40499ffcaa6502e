"""What runs crossfade somewhere: the embedded stack, the demo, containers, manifests."""

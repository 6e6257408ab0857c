"""What the service is measured against: the same network and the same answer, served otherwise."""

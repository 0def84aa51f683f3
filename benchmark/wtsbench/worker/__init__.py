"""What runs inside the sandbox around the science: the fork server, the init process, the heartbeat watch."""

"""What keeps a store in order: verified, copied, exported, merged."""

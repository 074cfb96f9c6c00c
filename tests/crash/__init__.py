"""Every state that a power cut could leave behind, built from real system calls and looked at with a fresh store."""

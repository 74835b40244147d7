"""What a Linux machine offers: netlink, nftables, connection tracking, addresses. Knows nothing of kpng."""

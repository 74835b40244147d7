"""What a Linux machine offers: netlink, nftables transactions, connection tracking, addresses. Knows nothing of kpng."""

"""What a Linux machine offers: netlink, nftables transactions. Knows nothing of kpng."""

"""Facts about proxies and apps, from inside each pod's namespace (S4.2). Says what is seen, never what to do."""

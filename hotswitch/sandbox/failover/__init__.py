"""An active/standby Service with everything real but the machine: pods, keepers, controllers, kernel, clients (S0)."""

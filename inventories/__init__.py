"""Who: inventories for pyinfra. `inventory` in the root is a link to the chosen one."""

"""What every resource of the REST API shares: who calls, what may be sent, how pages, versions and problems look."""

"""Where a run ran: host, software, git and container facts as tags and one document."""

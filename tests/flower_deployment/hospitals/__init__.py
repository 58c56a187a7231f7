"""An app without a framework, so that its processes start soon."""

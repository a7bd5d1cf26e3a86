"""The others, each as a contestant: what people would use instead, set up as their makers advise."""

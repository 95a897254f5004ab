"""What runs in each container: takes values by HTTP and runs the task's program on them."""

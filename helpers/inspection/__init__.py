"""What came out of the compiler: pure functions over text and bytes, which know nothing of how or why it was built."""

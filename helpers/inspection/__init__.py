"""What came out of the compiler: pure functions over text and bytes that know nothing of how it was built."""

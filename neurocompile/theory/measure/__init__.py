"""What is measured on data and on programs, and what the bounds then say of them."""

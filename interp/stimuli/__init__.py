"""What wings show a model: prose, where its sentences begin, and haystacks made of it."""

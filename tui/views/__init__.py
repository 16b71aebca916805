"""What the screens show, as rows and text: pure, made of what is known of the fleet."""

"""The page: images dropped, answers and maps looked at, the model's card and the registered versions beside them."""

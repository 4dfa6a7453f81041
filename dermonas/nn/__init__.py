"""Networks: operations, cells, stems, auxiliary head, drop path, and their measures."""

"""What people read: tables (for terminals, pages and programs), figures, and progress bars."""

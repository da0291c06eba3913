"""What people see and attach: tables, plots, explorers, recorded rows and the workbook's verdict."""

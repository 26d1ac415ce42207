"""Files of any form to tables of plain columns."""

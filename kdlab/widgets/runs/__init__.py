"""What the explorers of finished runs are made of: reading, arms, selection, lines and panels.

``ResultsBrowser`` and ``BudgetExplorer`` share ``read``, ``arms``, ``controls`` and ``panels``; ``table``, ``shown``,
``run`` and ``words`` are the browser's, ``scene``, ``lines``, ``chart``, ``told`` and ``commands`` the budget's.
"""

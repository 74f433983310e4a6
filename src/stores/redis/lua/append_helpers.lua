-- What an append uses of the code above.

return { open = open, fit = fit, add = add, trim = trim, reason = reason, seldom = seldom }

-- What an append uses of all this.

return { open = open, fit = fit, add = add, trim = trim, reason = reason, seldom = seldom }

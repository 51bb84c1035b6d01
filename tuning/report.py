def write(*a): open(a[0].folder/"report.html","w").write("x")

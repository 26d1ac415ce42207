"""Models that keep themselves young: trained anew on the bars that came since."""

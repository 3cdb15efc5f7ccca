"""English sentences that show one thing and leave the opinion to the reader.

The format is that of `review_phrases.py`. `{…}` is filled by `review_more.py`; `@ -`
opens a bank without subjects.
"""

# One thing seen, smelt or heard, from which the opinion follows.
DETAILS = """
@ -
+ the plate came out sizzling and smelled like heaven
+ the bread was still steaming when I tore it open/they grind the beans right in front of you
+ the kitchen is open and you can see how careful they are/they warmed the bowls
+ the cheese pull was endless/the crust crackled/the fruit was ripe and sweet
+ my {food} was so full it barely closed/they peeled the shrimp for my mom
+ they cut my son's food without being asked/they brought a blanket when I looked cold
+ they held the door for my grandmother/they moved tables so our wheelchair could fit
+ the menu marks every allergen/they kept my lost phone safe for {long}
+ they remade it without a word when I said it was cold
+ they packed the sauce apart so nothing got soggy/refills kept coming and nobody charged us
+ two of us ate like kings for {price}/four sides came free with the meal
+ the bill was so small I checked it twice/we heard laughter from every table
+ you can smell the garlic from the street/the sunset from the patio, wow/the dog got a treat too
+ the barista drew a cat on my latte/the chef picked the fish himself that morning
+ made from scratch, and it shows/the sauce, oh the sauce/bones picked clean
+ the table went silent when the {food} arrived/my wallet said no, my mouth said yes
+ my grandma wants their recipe/my diet did not survive/went for one drink, stayed for dinner
+ came for the {food}, stayed for the people/I proposed here and the staff cried with us
+ they turned a bad day around/my teenage son put his phone down to eat
+ the quiet guy at our table said wow/I would eat that {food} every day of my life
+ I have had {food} in five countries and this is up there
+ somebody back there really knows how to cook {food}
+ if you only order one thing, make it the {food}/they could charge double
+ they could teach a class on kindness/I was ready to be let down and they proved me wrong
+ saved our anniversary/restored my faith in {food}
- the plate was chipped and smeared/the bread could break a window/the beans must be from last year
- the kitchen is open and I wish it was not/the bowl was cold and so was the soup
- the cheese was like rubber/the crust was like chewing a shoe/the fruit was brown and mushy
- my {food} was hollow/the shrimp still had their insides
- they snapped at my son for dropping a spoon/they left the door open all winter night
- nobody helped my grandmother on the stairs/they told us the wheelchair was in the way
- nobody could say what is in the sauce/they denied finding my phone and I could hear it ring
- they put it in the microwave when I said it was cold
- everything was in one box, all mixed and soggy/they charged for every refill
- two of us paid {price} and left hungry/the side was one slice of pickle
- the bill had items we never ordered/you could hear a fight in the kitchen
- you can smell the drain from the street/the patio looks at a dumpster/even my dog walked away
- the barista was texting while my milk burned/the fish had been there longer than the chairs
- straight from the freezer, and it shows/the sauce came from a packet
- the table went silent, and not in a good way/my wallet cried and my stomach too
- my grandma asked if it was a joke/went for dinner, left after one drink
- came for the {food}, left because of the people/my date asked if we could leave
- they turned a good day bad/my teenage son, who eats everything, pushed it away
- I could not look at {food} for a week/I have had {food} in five countries and this is the worst
- somebody back there has never eaten {food}/if you only skip one thing, skip the {food}
- they should pay me to eat it/they could use a class on manners
- I was ready to like it and they proved me wrong/wrecked our anniversary
- made me lose faith in {food}/we laughed so we would not cry/I asked for the manager and she hid
- sat under a leaking pipe the whole evening
"""

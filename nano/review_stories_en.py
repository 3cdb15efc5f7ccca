"""English sentences that are short stories.

The format is that of `review_phrases.py`. `{…}` is filled by `review_more.py`; `@ -`
opens a bank without subjects.
"""

# Short stories, one opinion each.
STORIES = """
@ -
+ lovely little place, we will be back/what a lovely surprise/such a warm welcome
+ we felt right at home/the staff went above and beyond/she greeted us like old friends
+ he checked on us at just the right moments/they made us feel special
+ they noticed and fixed it before we asked/they gave our kids crayons and extra fries
+ they let us sample before choosing/they comped our dessert because of a short wait
+ they stayed open late just for us/the hostess found us a table in minutes
+ never rushed, never ignored/kind to my grandmother, that says it all
+ everything tasted fresh and bright/you can taste the butter/crispy edges, soft middle, perfect
+ the crust shattered when I bit in/juicy all the way through/tender enough to cut with a fork
+ so flavorful it did not need sauce/a perfect balance of sweet and sour
+ just the right amount of heat/rich but not heavy/light, airy, gone too soon
+ the broth warmed me to my toes/I could drink that sauce/the rice was fluffy and fragrant
+ noodles with a perfect bite/the fish was flaky and sweet/the greens were crisp and cold
+ cooked exactly as we asked/even the side salad was a star/even the water tasted good
+ the desserts are dangerous/my mouth is watering as I write
+ I still smell the garlic and I do not mind/plates came back empty/we ordered seconds
+ we shared everything and fought for the last piece/leftovers did not make it to morning
+ my hangover vanished/it cured my cold/made a rainy day sunny
+ exactly what I needed after a long day/the highlight of our trip/the reason I love this city
+ we planned the next visit in the car/I have been three times since
+ I go every Friday and it never gets old/our new family tradition
+ I brought my boss and got a raise, kidding, but he loved it/my vegan sister finally had choices
+ my dad who hates spicy food asked for more/grandpa approved
+ the kids sat still for an hour, a miracle/even the baby was happy/friendly faces every time
+ honest prices, honest portions/generous pours/big plates, small bill/worth double
+ could not believe the bill, so cheap/good food does not have to be expensive, and here is proof
+ clean, quick, delicious/quick lunch done right/fast food that does not taste like it
+ a safe choice every time/consistent for ten years/same great taste since I was a kid
+ not much to look at, but oh the food/do not let the outside fool you
+ the line is there for a reason/believe the hype/the rumors are true/best kept secret in town/a gem
+ a treasure/a must/a keeper/a delight from start to finish/pure comfort/simple done right
+ passion on a plate/the chef is a genius/whoever made that {food} deserves a medal
+ hats off to the kitchen/compliments to the chef/props to the team/kudos/well done/nailed it
+ killed it/knocked it out of the park/hit the spot/made my mouth happy
+ brought tears to my eyes, happy ones/hooked after one bite/sold after the first sip/converted
+ count me impressed/color me impressed/consider me a fan/my cravings have a new address
+ I would eat there blindfolded/I would marry that {food}/if I could give six stars I would
+ I rarely give five stars, here they are/easily the best {food} I have ever had
+ nothing short of amazing/could not ask for more/what else do you need/no notes/zero complaints
+ flawless/faultless/spotless and speedy/charming/cozy/welcoming/thoughtful/attentive/heavenly
+ dreamy/scrumptious/mouthwatering/satisfying/refreshing/memorable/unforgettable/top tier
+ first class/a cut above/miles better than the chain next door/puts other places to shame
- what a sad little place/what a nasty surprise/such a cold welcome/we felt unwanted
- the staff could not be bothered/she greeted us with a grunt/he vanished after taking the order
- they made us feel like a problem/they noticed and did nothing
- they told our kids to be quiet, twice/they would not let us change tables
- they added a charge for sharing/they closed early and kicked us out
- the hostess ignored us while tables sat empty/rushed in, rushed out
- rude to my grandmother, that says it all/everything tasted old and tired/you can taste the freezer
- burnt edges, raw middle/the crust bent like rubber/dry all the way through/needed a saw to cut it
- so bland I emptied the salt shaker/sour in a way it should not be
- no heat, just a burning aftertaste/heavy, oily, sat like a brick/flat, dense, stale
- the broth was tap water with noodles/I could not swallow that sauce/the rice was hard and crunchy
- noodles in one solid lump/the fish was dry and full of bones/the greens were slimy and warm
- nothing came the way we asked/even the bread was bad/even the water tasted of bleach
- the desserts were frozen solid/my stomach hurts as I write/I still smell like fryer oil
- plates went back full/we sent it back and it came back worse
- nobody wanted the last piece, or the first/leftovers went to the trash/gave me heartburn
- made me sick/ruined a sunny day/the last thing I needed after a long day/the low point of our trip
- the reason people cook at home/we complained all the way home/I have not been back since
- I went every Friday, no more/a family tradition ended today/I brought my boss and wanted to vanish
- my vegan sister got a plate of lettuce/my dad who eats everything asked for a napkin to hide it
- grandpa was furious/an hour with hungry kids, a nightmare/even the baby spat it out
- long faces every time/dishonest prices, dishonest portions/watered-down drinks
- big bill, small plates/worth half/could not believe the bill, so high
- they charge extra for air, probably/dirty, slow, tasteless/a lunch break wasted
- fast food would be an upgrade/a gamble every time/gets worse each visit
- ruined the place I loved as a kid/nice to look at, awful to eat/do not let the photos fool you
- empty for a reason/do not believe the hype/the rumors of good food are false
- worst kept secret in town/a dump/a disgrace/a pity/a pass/a disaster from start to finish
- pure regret/simple and still done wrong/no love on that plate/the cook should be ashamed
- whoever made that {food} should apologize/shame on the kitchen/the chef was clearly absent
- no pride in this place/pathetic/failed/flopped/dropped the ball/missed the mark
- left a bad taste in my mouth/tears in my eyes, not happy ones/done after one bite
- lost me after the first sip/never trusting that friend again/count me out/not a fan/unimpressed
- my appetite left before I did/I would not eat there for free/I would rather eat the menu
- if I could give no stars I would/I rarely complain, but this was bad
- easily the worst {food} I have ever had/nothing short of awful/could not ask for less
- what were they thinking/nothing but complaints/a mess/careless/filthy and slow/depressing/cramped
- unwelcoming/thoughtless/clueless/inedible/unappetizing/revolting/stomach turning/forgettable
- regrettable/unbearable/bottom tier/third rate/a step down/the chain next door is miles better
- the gas station next door would be better/they should be embarrassed
- the quality dropped and the price did not/they blamed me for their mistake
- they lied about the ingredients/they ran out of everything/they ignored my allergy
- my card was charged twice/there was a bug in my salad/there was glass in my drink
- there was mold on the bread/chewed and chewed and gave up/we walked out
- I wish I had read the other reviews
"""

# Dishes and details.
FOOD = """
@ -
+ soup so good I asked for a straw/coffee strong enough to wake the dead, in a good way
+ latte like velvet/scones warm, jam homemade/croissants that flake all over your shirt, worth it
+ pancakes fluffy as clouds/eggs runny just how I like them/bacon crisp, toast golden
+ burger dripping down my arms, no regrets/fries salty, hot, endless/wings with real kick
+ ribs that slid off the bone/steak pink in the middle, charred outside
+ sushi fresh as the morning catch/ramen with a silky egg/dumplings thin skinned and full of soup
+ fried rice with that smoky wok taste/curry layered with spice/naan straight from the oven
+ tacos with fresh lime and real salsa/pizza with blistered crust/pasta made by hand, you can tell
+ risotto creamy, not a grain overdone/salad crunchy and bright
+ tofu crisp outside and custardy inside/kimchi with a proper tang/bibimbap sizzling in a stone bowl
+ ice cream like my childhood/cheesecake light as a cloud/pie crust my grandma would envy
+ chocolate cake so moist/wine list short and smart/beer ice cold/cocktails balanced and strong
+ tea served with care/juice squeezed in front of me/bread basket worth the carbs
+ sauce worth bottling/gravy like Sunday at home/portion for a lumberjack
- soup with nothing in it/coffee like burnt rubber/latte with sour milk
- scones like rocks, jam from a packet/croissants like wet cardboard/pancakes raw in the center
- eggs rubbery and cold/bacon limp, toast black/burger grey and dry/fries limp and counted
- wings with no meat on them/ribs all bone/steak like leather/sushi warm and smelly
- ramen with a grey egg/dumplings thick and empty/fried rice greasy and stale/curry from a jar
- naan hard as a plate/tacos soggy, salsa watery/pizza burnt below, raw above/pasta boiled to mush
- risotto like wet cement/salad brown and limp/tofu sour/kimchi sweet and old
- bibimbap cold in a plastic bowl/ice cream full of ice crystals/cheesecake like rubber
- pie crust tough as a boot/chocolate cake dry as sand/wine warm and vinegary/beer flat
- cocktails all ice and syrup/tea bag in lukewarm water/juice from a carton at triple the price
- bread stale, butter frozen/sauce like glue/gravy with lumps/portion for a mouse
"""
